"""What a law raises."""

__all__ = ["BrokenLawError"]


class BrokenLawError(AssertionError):
    """A law was broken; the message is the shortest story of it.

    Attributes:
        law: which one: "order", "exactly once", "no skip", "agreement" or "books"; of a simulation
            also "one owner", "appends", "liveness" or "scenario".
        key: of the document that isn't as it has to be; None where none is in question.
    """

    def __init__(self, law: str, story: str, *, key: object = None) -> None:
        super().__init__(story)
        self.law = law
        self.key = key
