/* For a program that gives damaged files to the libraries, once in it. */
#ifndef ATL_TEST_SANITIZERS_H
#define ATL_TEST_SANITIZERS_H

/* HDF5 forgets some of its own memory when a file turns out to be damaged. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

/* Absurd amounts of memory that the libraries ask for are refused, and no finding: they take that well. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

#endif
