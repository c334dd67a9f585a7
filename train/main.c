/* The program: answers --version at once and loads the library for everything else, so that a script that
 * asks for the version does not pay for linking HDF5 and oneDNN. */
#include "atelier.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        printf("atelier %s\n", ATELIER_VERSION);
        return 0;
    }
    /* OpenMP's threads wait for each other some 20 microseconds awake, then asleep: the default, to wait
     * awake, makes a step many times slower as soon as anything else wants a core. OpenMP reads this when it
     * is loaded. */
    if (!getenv("OMP_WAIT_POLICY"))
        setenv("GOMP_SPINCOUNT", "1000", 0);
    void *library = dlopen("libatelier.so.0", RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "atelier: error: cannot load its library: %s; build or install Atelier again\n",
                dlerror());
        return 1;
    }
    void (*own_process)(void) = (void (*)(void))dlsym(library, "atl_own_process");
    int (*run)(int, char **) = (int (*)(int, char **))dlsym(library, "atl_main");
    if (!own_process || !run) {
        fprintf(stderr,
                "atelier: error: libatelier.so.0 is of another version; build or install Atelier again\n");
        return 1;
    }
    own_process();
    return run(argc, argv);
}
