"""Everything a user can cause, as one small tree.

```
FacsynthError
├── DataError       a file, a row or a value is not what was asked for
├── MismatchError   two artifacts do not belong together (model and SAE, table and SAE)
├── ModelError      a language model or an SAE cannot be loaded or used
├── ChatError       an LLM endpoint failed, or too many replies were unusable
├── BudgetError     the next call would go over a limit that the user set
└── SpaceError      the disk is full or cannot be written
```

Every message says what happened, with which value, and what to do. Code that uses the
library catches `FacsynthError`; the command line prints it as one line and exits with 1.
"""


class FacsynthError(Exception):
    """Base class of everything that a user of facsynth can cause."""


class DataError(FacsynthError):
    """A file, a row or a value is not what was asked for."""


class MismatchError(FacsynthError):
    """Two artifacts do not belong together, such as a table and an SAE."""


class ModelError(FacsynthError):
    """A language model or a sparse autoencoder cannot be loaded or used."""


class ChatError(FacsynthError):
    """An LLM endpoint failed, or too many of its replies were unusable."""


class BudgetError(FacsynthError):
    """The next call would go over a limit that the user set."""


class SpaceError(FacsynthError):
    """The disk is full or cannot be written."""
