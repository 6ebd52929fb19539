"""What a job's processes are started with."""

from atrous.studies.job_process import process_environment


def test_waiting_threads_sleep_and_memory_comes_in_huge_pages_unless_something_else_is_set() -> None:
    assert process_environment({}, threads=0) == {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    own = {"OMP_WAIT_POLICY": "ACTIVE", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "HOME": "/home/me"}
    assert process_environment(own, threads=3) == {**own, "OMP_NUM_THREADS": "3"}
    other = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    tunables = process_environment(other, threads=0)["GLIBC_TUNABLES"]
    assert tunables == "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
