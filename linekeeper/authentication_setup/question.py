"""What a run that sets up a login waits for, as its form says it. Pure."""

from linekeeper.authentication_setup.ask import artifact_of
from linekeeper.authentication_setup.decide import SetupStanding
from linekeeper.markdown import text


def what_is_missing(standing: SetupStanding) -> str:
    """What the form of the run says."""
    label = text(standing.subject.label)
    match standing.step:
        case "requirements":
            return (
                f"**Waiting for the technical requirements of {label}.** Choose *confirmed* when "
                "the customer has a user for Makini and what its system asks for. The kickoff of "
                "its implementation confirms them, too."
            )
        case "preflight":
            return (
                f"**Waiting for preflight:** {text(standing.lacks_preflight, 300)}. The run goes "
                "on by itself once it has passed; choose *confirmed* to go on without it."
            )
        case "verification":
            return (
                f"**{label}: the customer has logged in, and no record could be read yet.** It is "
                "tried again every 15 minutes."
            )
    return (
        f"**Waiting for the login to {label}.** The run goes on by itself. The link is in the "
        f"artifact `{artifact_of(standing.row)}`."
    )
