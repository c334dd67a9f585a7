/* AddressSanitizer looks at each access of a kernel that was compiled for it. It is told here where the
 * device's and shared memory end, to the byte; threads' arrays it knows. What it finds ends as every other
 * mistake does. */
#include "bounds.h"

#if defined(__SANITIZE_ADDRESS__)

#include "block.h"
#include "runtime.h"

#include <sanitizer/asan_interface.h>

void bounds_close(const void *p, size_t bytes)
{
    ASAN_POISON_MEMORY_REGION(p, bytes);
}

void bounds_open(const void *p, size_t bytes)
{
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
}

/* After the report, before the process ends. */
static void dies(void)
{
    char text[256];
    if (!stand_in_self || !__asan_report_present())
        return;
    const char *p = __asan_get_report_address();
    if (block_own(p))
        stand_in_fail(NULL, 0, "illegal address %p: outside of the thread's arrays", (const void *)p);
    memory_describe(text, sizeof text, p);
    stand_in_fail(NULL, 0, "illegal address %p: %s", (const void *)p, text);
}

void bounds_report(void)
{
    __asan_set_death_callback(dies);
}

#endif
