"""What the thirty universes of `make test` are a choice of."""

from collections import Counter

from tests.simulation.chosen import CHOSEN, POOL, REPLAYED, pairs_in, traits_of


def test_each_trouble_is_in_four_of_the_chosen_universes_each_trait_in_two_and_most_pairs() -> None:
    assert len(set(CHOSEN)) == 30
    assert set(CHOSEN) <= set(POOL)
    assert REPLAYED in CHOSEN
    traits = {seed: traits_of(seed) for seed in POOL}
    there = Counter(trait for each in traits.values() for trait in each)
    chosen = Counter(trait for seed in CHOSEN for trait in traits[seed])
    wanted = {
        trait: min(count, 4 if trait[0] == "trouble" else 2) for trait, count in there.items()
    }
    assert {trait: chosen[trait] for trait in there if chosen[trait] < wanted[trait]} == {}
    together = pairs_in(traits[seed] for seed in CHOSEN)
    assert len(together) > 0.9 * len(pairs_in(traits.values()))
