"""What the sixty universes of `make test` are a choice of."""

from tests.simulation.chosen import CHOSEN, POOL, REPLAYED, counted


def test_each_kind_of_trouble_is_in_four_of_the_chosen_universes_and_each_trait_in_two() -> None:
    assert len(set(CHOSEN)) == 60
    assert set(CHOSEN) <= set(POOL)
    assert REPLAYED in CHOSEN
    there, chosen = counted(POOL), counted(CHOSEN)
    wanted = {
        trait: min(count, 4 if trait[0] == "trouble" else 2) for trait, count in there.items()
    }
    assert {trait: chosen[trait] for trait in there if chosen[trait] < wanted[trait]} == {}
