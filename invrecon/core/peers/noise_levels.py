"""The noise levels behind a schedule's coefficients."""

from invrecon.core.schedule import Schedule


def noise_levels(schedule: Schedule, tolerance: float = 1e-3) -> list[tuple[float, float]]:
    """(a, s) at the T + 1 ends of the steps, from noise to image; z = a z_0 + s e.

    A schedule holds A = a_s / a_t and B = s_s - A s_t only. With a² + s² = 1 at both ends of a step,

        1 = a_s² + s_s² = A² a_t² + (B + A s_t)² = A² + B² + 2 A B s_t,      so  s_t = (1 - A² - B²) / (2 A B)

    The last level, the image's, follows from the last step:  s_s = B + A s_t,  a_s = A a_t.

    Args:
        tolerance: by how much the s at which one step ends and the next begins may differ.

    Raises:
        ValueError: no levels with a² + s² = 1 have these coefficients.
    """
    levels: list[tuple[float, float]] = []
    for A, B in zip(schedule.A, schedule.B, strict=True):
        s = (1 - A * A - B * B) / (2 * A * B) if B else -1.0
        if not 0 < s < 1 or (levels and abs(levels[-1][1] - s) > tolerance):
            raise ValueError("the schedule's coefficients are not those of levels with a² + s² = 1")
        a = (1 - s * s) ** 0.5
        levels[-1:] = [(a, s), (A * a, B + A * s)]
    return levels
