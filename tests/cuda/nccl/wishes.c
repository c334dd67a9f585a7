/* What a test wants to happen: ATELIER_STAND_IN_NCCL has words, with a number where it says so, and of one
 * rank alone where a second number follows.
 *
 *     delay:MS   each group takes so many milliseconds    notices  an end of another process is an error
 *     dies:N     killed in the middle of group N          hides    does not come when all join
 *     stops:N    stopped there (SIGSTOP)                  wrong:N  group N brings wrong numbers
 *     mute:N     from group N on nothing moves */
#include "stand_in.h"

#include <stdlib.h>
#include <string.h>

long wish(const char *word, int rank)
{
    const char *at = getenv("ATELIER_STAND_IN_NCCL");
    const size_t length = strlen(word);
    while (at && *at) {
        const size_t n = strcspn(at, ",");
        if (n >= length && strncmp(at, word, length) == 0 && (at[length] == ':' || n == length)) {
            char *end = (char *)at + length;
            const long number = *end == ':' ? strtol(end + 1, &end, 10) : 0;
            if (*end != ':' || strtol(end + 1, NULL, 10) == rank)
                return number;
        }
        at += n + (at[n] == ',');
    }
    return -1;
}
