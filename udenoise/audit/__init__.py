"""Judge a movie that any program denoised: by a half of the recording that it has not seen, or by the raw movie.

`split` halves the noise of a movie; the user denoises the one half with whatever there is; `score` holds the result against the
other. `quick` is for a finished movie only: what it can say rests on the program's not having seen the frame itself.
"""

from udenoise.audit.halves import split
from udenoise.audit.judge import quick, score

__all__ = ["quick", "score", "split"]
