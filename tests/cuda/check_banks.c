/* The hot kernels' accesses to shared memory, as a watched run has counted them (ATELIER_STAND_IN_REPORT):
 * whether banks conflict by the pattern of the addresses. Operands' rows are laid out so that none do; the
 * end of a tile, which comes once, reads two-way, and rows of uneven lengths are stored so. Breaks if a
 * layout loses that.
 *
 *     check_banks REPORT */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Cycles for one without conflicts, over all of a kernel's accesses. */
#define LOADS_MOST 2.0
#define STORES_MOST 1.8
static const char *const hot[] = {"window_kernel",     "weight_kernel",     "product_kernel",
                                  "attention_forward", "attention_queries", "attention_keys"};
enum { HOT = sizeof hot / sizeof *hot };

static double mean_of(const json_t *kernel, const char *what)
{
    return json_number_value(json_object_get(json_object_get(kernel, what), "mean"));
}

/* Returns how many complaints there are. */
static int check(const json_t *kernel, int seen[HOT])
{
    const char *name = json_string_value(json_object_get(kernel, "kernel"));
    const double loads = mean_of(kernel, "shared_loads"), stores = mean_of(kernel, "shared_stores");
    for (int i = 0; i < HOT; i++)
        if (name && strncmp(name, hot[i], strlen(hot[i])) == 0) {
            seen[i]++;
            if (loads <= LOADS_MOST && stores <= STORES_MOST)
                return 0;
            printf("%s: loads take %.2f cycles for one, stores %.2f; at most %.1f and %.1f are allowed\n",
                   name, loads, stores, LOADS_MOST, STORES_MOST);
            return 1;
        }
    return 0;
}

int main(int argc, char **argv)
{
    static char line[1 << 20];
    int complaints = 0, seen[HOT] = {0};
    FILE *f = argc > 1 ? fopen(argv[1], "r") : NULL;
    if (!f) {
        fprintf(stderr, "check_banks: no report\n");
        return 2;
    }
    while (fgets(line, sizeof line, f)) {
        json_t *kernel = json_loads(line, 0, NULL);
        complaints += kernel ? check(kernel, seen) : 1;
        json_decref(kernel);
    }
    fclose(f);
    for (int i = 0; i < HOT; i++)
        if (!seen[i]) {
            printf("no kernel %s… in the report\n", hot[i]);
            complaints++;
        }
    return complaints > 0;
}
