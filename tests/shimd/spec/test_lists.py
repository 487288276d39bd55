"""Lists of CPUs, as the kernel writes them."""

import pytest

from shimd.spec.lists import is_cpu_list


@pytest.mark.parametrize("text", ["0", "0-3,7", "0, 2-3\n", "0-15:2/4", "3-3"])
def test_cpu_lists(text: str) -> None:
    assert is_cpu_list(text)


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "a", "1,", "3-1", "0-7:5/4", "0-7:0/4", "1:1/2", "9" * 7, "٣"])
def test_what_is_no_cpu_list(text: str) -> None:
    assert not is_cpu_list(text)
