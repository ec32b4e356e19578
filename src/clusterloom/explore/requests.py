"""Types and ranges of what requests hold; the functions in `routes` say by name what each request takes."""

from typing import Annotated

from pydantic import FailFast, Field, StringConstraints

from clusterloom.corrections.forms import ClusterNumber, Form, Row

RowText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(,[0-9]{1,9}){0,255}$")]  # such as 3,17,4
SearchText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Revision = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=200)]  # of images that are there
FewRows = Annotated[list[Row], Field(min_length=1, max_length=200), FailFast()]  # whose images are shown at once
Parts = Annotated[int, Field(ge=2, le=8)]  # of a cluster
NewCount = Annotated[int, Field(ge=1, le=64)]  # of images to be made
Steps = Annotated[int, Field(ge=2, le=32)]
Spread = Annotated[float, Field(ge=0, le=3)]
Seed = Annotated[int, Field(ge=0, le=1 << 31)]
Seeds = Annotated[list[Seed], Field(min_length=1, max_length=40), FailFast()]
Offsets = Annotated[list[Annotated[float, Field(ge=-4, le=4)]], FailFast()]  # deviations


class OfImage(Form):
    """The place of an image in latent space."""

    row: Row


class OfCluster(Form):
    """The middle of a cluster in latent space."""

    cluster: ClusterNumber


To = OfImage | OfCluster
From = Annotated[To, Field(alias="from")]
