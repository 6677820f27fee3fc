"""Exact moments of integer images. They form a commutative group: images can be added, subtracted and merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.errors import AcdError, ErrorCode

__all__ = ["CLIP_ROUNDS", "LEAST_CLIPPED", "MAX_COUNT", "Moments", "stored_nodata"]

Image: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]

MAX_COUNT = 65535
"""Maximum number of images per pixel.

16-bit values differ by at most 65535, so their variance is at most (65535/2)**2. With n <= 65535 images,
n*Q - S*S is n*n times the variance, which stays below 2**62.
"""

CLIP_ROUNDS = 2
"""Number of rounds in which unusually low values are left out."""

LEAST_CLIPPED = 24
"""Fewest values of a pixel of which any is left out: some more than the 20 that a z needs by default."""

_BLOCK_PIXELS = 32768
_UINT32_MAX = 2**32 - 1
_UINT8_MAX = 255


def stored_nodata(nodata: float | None, dtype: np.dtype[Any]) -> int | None:
    """Nodata as an integer of this type, or None if the type cannot represent it.

    >>> stored_nodata(-32768.0, np.dtype("int16")), stored_nodata(-1, np.dtype("uint8"))
    (-32768, None)
    """
    if nodata is None or not float(nodata).is_integer():
        return None
    limits = np.iinfo(dtype)
    return int(nodata) if limits.min <= nodata <= limits.max else None


def _require_small_integers(images: Image) -> None:
    if images.dtype.kind not in "iu" or images.dtype.itemsize > 2:
        raise AcdError(
            ErrorCode.INPUT_BANDS,
            f"exact moments need integers of 8 or 16 bits, and the images are {images.dtype}",
            "Store the variable as integers of 8 or 16 bits, with a scale.",
        )


class _BlockSums:
    """Sums over a block of rows, kept in 32 bits while that is exact and then flushed to 64 bits."""

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.valid = np.empty(shape, np.bool_)
        self._masked = np.empty(shape, dtype)
        self._wide = np.empty(shape, np.int32)
        self._count = np.zeros(shape, np.uint8)
        self._total = np.zeros(shape, np.int32)
        self._squares = np.zeros(shape, np.uint32)
        self._images = 0
        self._largest_square_sum = 0

    def add(self, image: Image, out: Moments) -> None:
        """Add an image where self.valid is True."""
        np.multiply(image, self.valid, out=self._masked)
        peak = max(int(self._masked.max()), -int(self._masked.min()))
        # The sum of 255 16-bit values fits 32 bits; the sum of their squares may not.
        if self._images == _UINT8_MAX or self._largest_square_sum + peak * peak > _UINT32_MAX:
            self.flush(out)
        self._images += 1
        self._largest_square_sum += peak * peak
        np.copyto(self._wide, self._masked)
        np.add(self._count, self.valid.view(np.uint8), out=self._count)
        np.add(self._total, self._wide, out=self._total)
        squared = self._wide.view(np.uint32)
        np.multiply(squared, squared, out=squared)  # modulo 2**32, and x*x of a 16-bit value is below that
        np.add(self._squares, squared, out=self._squares)

    def flush(self, out: Moments) -> None:
        """Add the sums to `out` and reset them."""
        np.add(out.count, self._count, out=out.count)
        np.add(out.total, self._total, out=out.total)
        np.add(out.total_of_squares, self._squares, out=out.total_of_squares)
        for part in (self._count, self._total, self._squares):
            part.fill(0)
        self._images = 0
        self._largest_square_sum = 0


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, sum and sum of squares of each pixel's valid values, as exact integers.

    Adding and subtracting are exact and commute, so the order of add, subtract and merge does not matter.

    Attributes:
        count: shape (height, width), int32.
        total: shape (height, width), int64, in stored units.
        total_of_squares: shape (height, width), int64, in stored units squared.

    >>> import numpy as np
    >>> a = Moments.of_images(np.array([[[3, 0]], [[5, 0]]], np.int16), nodata=0)
    >>> a.mean(), a.standard_deviation()
    (array([[ 4., nan]], dtype=float32), array([[ 1., nan]], dtype=float32))
    >>> a.subtract(np.array([[5, 0]], np.int16), np.array([[True, False]])).mean()
    array([[ 3., nan]], dtype=float32)
    """

    count: NDArray[np.int32]
    total: NDArray[np.int64]
    total_of_squares: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not self.count.shape == self.total.shape == self.total_of_squares.shape:
            raise ValueError("count, total and total_of_squares differ in shape")

    @classmethod
    def zeros(cls, shape: tuple[int, int]) -> Moments:
        """Moments of zero images, for pixels of shape (height, width)."""
        return cls(np.zeros(shape, np.int32), np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    @classmethod
    def of(cls, stack: Image, valid: Mask) -> Moments:
        """Moments of the valid pixels of a stack.

        Args:
            stack: shape (images, height, width), integers of 8 or 16 bits.
            valid: same shape, True where a pixel counts.

        Raises:
            AcdError: INPUT_BANDS for any other type.
        """
        if valid.shape != stack.shape:
            raise ValueError(f"valid has shape {valid.shape}, the stack {stack.shape}")

        def copy_valid(index: int, rows: slice, out: Mask) -> None:
            np.copyto(out, valid[index, rows])

        return cls._sum(stack, copy_valid)

    @classmethod
    def of_images(cls, stack: Image, nodata: float | None) -> Moments:
        """Moments of the pixels of a stack that are not nodata.

        Works on blocks of rows, so it never allocates an array of the stack's size.

        Args:
            stack: shape (images, height, width), integers of 8 or 16 bits.
            nodata: the stored value that means no data, or None if every pixel is valid.

        Raises:
            AcdError: INPUT_BANDS for any other type.
        """
        _require_small_integers(stack)
        missing = stored_nodata(nodata, stack.dtype)

        def compare(index: int, rows: slice, out: Mask) -> None:
            if missing is None:
                out.fill(True)
            else:
                np.not_equal(stack[index, rows], missing, out=out)

        return cls._sum(stack, compare)

    @classmethod
    def clipped(cls, stack: Image, nodata: float | None, clip: float) -> tuple[Moments, NDArray[np.int32]]:
        """Moments of a stack without values that are unusually low for their pixel.

        A year of images contains changes itself, above all farm work and floods. They lower the mean and widen the
        standard deviation, so that the next change looks usual. In each of CLIP_ROUNDS rounds, values below

            mean - clip * std

        of what is left are taken out of the exact moments; low values only, since unusually high coherence hides no
        change. (On such rules: P. J. Huber and E. M. Ronchetti, "Robust statistics", 2nd ed., Wiley 2009, section 1.2.)
        Pixels with fewer than LEAST_CLIPPED values keep all, since a few values do not tell what is unusual.
        The limit rises from round to round, so the result is the moments of all values that reach the last one.

        Args:
            stack: shape (images, height, width), integers of 8 or 16 bits.
            nodata: the stored value that means no data, or None.
            clip: standard deviations below the mean; 0 leaves nothing out.

        Returns:
            The moments, and the number of values left out of each pixel.

        Raises:
            AcdError: INPUT_BANDS for any other type.

        >>> stack = np.array([*(700, 710, 690, 705, 695, 702, 698, 699, 701) * 3, 250], np.int16).reshape(28, 1, 1)
        >>> moments, left_out = Moments.clipped(stack, -1, 2.5)
        >>> moments.mean(), left_out
        (array([[700.]], dtype=float32), array([[1]], dtype=int32))
        >>> Moments.clipped(stack[18:], -1, 2.5)[1]
        array([[0]], dtype=int32)
        """
        every = moments = cls.of_images(stack, nodata)
        if not clip or not stack.size:
            return moments, np.zeros(moments.count.shape, np.int32)
        missing = stored_nodata(nodata, stack.dtype)
        valid = np.ones(stack.shape, np.bool_) if missing is None else stack != missing
        valid &= every.count >= LEAST_CLIPPED
        for _ in range(CLIP_ROUNDS):
            low = stack < moments._limit(clip, stack.dtype)
            low &= valid
            moments = every - cls.of(stack, low)
        return moments, every.count - moments.count

    def _limit(self, clip: float, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The lowest integer that is not clipped, for each pixel."""
        count = np.maximum(self.count, 1).astype(np.float64)
        spread = self.count * self.total_of_squares - self.total * self.total
        limit = np.ceil((self.total - clip * np.sqrt(spread.astype(np.float64))) / count)
        bounds = np.iinfo(dtype)
        clipped: NDArray[Any] = np.clip(limit, bounds.min, bounds.max).astype(dtype)
        return clipped

    @classmethod
    def _sum(cls, stack: Image, find_valid: Callable[[int, slice, Mask], None]) -> Moments:
        _require_small_integers(stack)
        images, height, width = stack.shape
        result = cls.zeros((height, width))
        if 0 in stack.shape:
            return result
        step = max(1, _BLOCK_PIXELS // width)
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            part = result.window(rows, slice(None))
            sums = _BlockSums(part.count.shape, stack.dtype)
            for index in range(images):
                find_valid(index, rows, sums.valid)
                sums.add(stack[index, rows], part)
            sums.flush(part)
        return result

    def window(self, rows: slice, columns: slice) -> Moments:
        """The moments of a window, as a view."""
        return Moments(self.count[rows, columns], self.total[rows, columns], self.total_of_squares[rows, columns])

    def add(self, image: Image, valid: Mask) -> Moments:
        """Add an image where it is valid; both of shape (height, width)."""
        return self + Moments.of(image[np.newaxis], valid[np.newaxis])

    def subtract(self, image: Image, valid: Mask) -> Moments:
        """Remove an image that was added with the same `valid`; both of shape (height, width)."""
        return self - Moments.of(image[np.newaxis], valid[np.newaxis])

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.total + other.total, self.total_of_squares + other.total_of_squares
        )

    def __sub__(self, other: Moments) -> Moments:
        return Moments(
            self.count - other.count, self.total - other.total, self.total_of_squares - other.total_of_squares
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        return (
            np.array_equal(self.count, other.count)
            and np.array_equal(self.total, other.total)
            and np.array_equal(self.total_of_squares, other.total_of_squares)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable arrays have no hash

    def _count_or_nan(self) -> NDArray[np.float64]:
        if self.count.size and not 0 <= int(self.count.min()) <= int(self.count.max()) <= MAX_COUNT:
            raise AcdError(ErrorCode.BUG, f"a pixel's image count is not between 0 and {MAX_COUNT}")
        return np.where(self.count == 0, np.nan, self.count.astype(np.float64))

    def mean(self) -> NDArray[np.float32]:
        """The mean of each pixel in stored units, float32; NaN where count is 0."""
        mean: NDArray[np.float32] = (self.total / self._count_or_nan()).astype(np.float32)
        return mean

    def standard_deviation(self) -> NDArray[np.float32]:
        """The population standard deviation (ddof 0) in stored units, float32; NaN where count is 0.

        sqrt(n*Q - S*S) / n, where the difference is an exact integer that fits 64 bits (see MAX_COUNT). For uint16 the
        two products may wrap around; their difference is exact all the same.
        """
        count = self._count_or_nan()
        spread = self.count * self.total_of_squares - self.total * self.total
        deviation: NDArray[np.float32] = (np.sqrt(spread.astype(np.float64)) / count).astype(np.float32)
        return deviation

    def count_view(self) -> NDArray[np.float32]:
        """The count of each pixel as float32, which is exact; 0 where there is no image."""
        return self.count.astype(np.float32)
