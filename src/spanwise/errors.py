"""Every way spanwise says no.

One root, three kinds of blame, an exit code for each::

    SpanwiseError                      exit 3 unless a subclass says otherwise
    ├── InputError                     exit 2  what the user gave cannot be used
    │   ├── IntentError                        an intent file: unknown key, wrong type, impossible value
    │   ├── FactsError                         a GPU, fabric or fact that is unknown or contradictory
    │   ├── ModelError                         a config.json or checkpoint that cannot be read or is not supported
    │   │   └── GatedModelError                the hub refused: licence not accepted or token missing
    │   ├── LayoutError                        a tensor/pipeline size that the model or the hardware forbids
    │   ├── PlanError                          a plan file that is damaged, or of another schema
    │   │   └── StalePlanError                 a plan whose expected state is no longer what is there
    │   ├── ManifestError                      a manifest that is not YAML, or not what its kind says
    │   └── UnsupportedPlatformError           this command needs Linux
    ├── CheckFailed                    exit 1  the question was answered, and the answer is bad
    │   ├── OutputsDiffer                      two layouts of one model do not say the same
    │   └── MisplacedGang                      a rank runs on another host than planned
    ├── Interrupted                    exit 130  Ctrl-C or SIGTERM, after cleaning up
    └── OutsideError                   exit 3  something that spanwise does not own failed
        ├── HubError                           the model hub is unreachable or refused
        ├── LabError                           the emulated hosts could not be made or removed
        ├── ProbeError                         a host did not answer, or could not measure
        ├── ClusterError                       Ray did not start, is already running, or stopped answering
        └── EngineError                        vLLM did not start, died, or answered with an error

Messages say *what* happened, *where*, and *what to do next*; the three parts are separate so that a terminal
can lay them out and ``--json`` can carry them.
"""

from __future__ import annotations


class SpanwiseError(Exception):
    """The root: catch this to catch everything spanwise raises on purpose.

    Args:
        what: One sentence: what went wrong.
        where: File, key, host or rank it concerns; empty when there is none.
        remedy: What to do next, as an instruction; empty when nothing helps.
    """

    exit_code: int = 3

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  -> {self.remedy}" if self.remedy else text

    def as_json(self) -> dict[str, object]:
        """The error as one JSON object, for ``--json``."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


class InputError(SpanwiseError):
    """What the user gave cannot be used."""

    exit_code = 2


class IntentError(InputError):
    """An intent file with an unknown key, a wrong type or an impossible value."""


class FactsError(InputError):
    """A GPU, fabric or fact that is unknown or contradictory."""


class ModelError(InputError):
    """A config.json or checkpoint that cannot be read or is not supported."""


class GatedModelError(ModelError):
    """The hub refused: the licence is not accepted, or the token is missing."""


class LayoutError(InputError):
    """A tensor or pipeline size that the model or the hardware forbids."""


class PlanError(InputError):
    """A plan file that is damaged, or of another schema."""


class StalePlanError(PlanError):
    """A plan whose expected state is no longer what is there."""


class ManifestError(InputError):
    """A manifest that is not YAML, or not what its kind says."""


class UnsupportedPlatformError(InputError):
    """This command needs Linux."""


class CheckFailed(SpanwiseError):  # noqa: N818 - a check that failed is an answer, not a fault
    """The question was answered, and the answer is bad."""

    exit_code = 1


class OutputsDiffer(CheckFailed):
    """Two layouts of one model do not say the same."""


class MisplacedGang(CheckFailed):
    """A rank runs on another host than planned."""


class Interrupted(SpanwiseError):  # noqa: N818 - asked for, not a fault
    """Ctrl-C or SIGTERM ended the command; the message says what was taken down."""

    exit_code = 130


class OutsideError(SpanwiseError):
    """Something that spanwise does not own failed."""

    exit_code = 3


class HubError(OutsideError):
    """The model hub is unreachable or refused."""


class LabError(OutsideError):
    """The emulated hosts could not be made or removed."""


class ProbeError(OutsideError):
    """A host did not answer, or could not measure."""


class ClusterError(OutsideError):
    """Ray did not start, is already running, or stopped answering."""


class EngineError(OutsideError):
    """vLLM did not start, died, or answered with an error."""
