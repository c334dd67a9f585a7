/* What is needed of Open MPI's C interface, declared here so that nothing of it is needed to build: handles
 * are addresses of objects in libmpi.so.40, whose layout nobody outside looks at, and so is every constant
 * that isn't a number. The same in Open MPI 4 and 5. Names are the standard's without MPI_. */
#ifndef ATL_COMM_OPENMPI_H
#define ATL_COMM_OPENMPI_H

#include <stddef.h>

#define OPENMPI_LIBRARY "libmpi.so.40"

enum {
    OPENMPI_SUCCESS = 0,
    OPENMPI_ERR_IN_STATUS = 18,
    OPENMPI_THREAD_FUNNELED = 1, /* only the thread that initialises it calls it */
    OPENMPI_TEXT = 512           /* bytes: more than the longest message, or version, has */
};

typedef struct OpenMpiStatus {
    int source, tag, error, cancelled;
    size_t bytes;
} OpenMpiStatus;

/* Each gives OPENMPI_SUCCESS or an error's number. Collective ones are for all processes of comm at once. */
#define OPENMPI_FUNCTIONS(X)                                                                                 \
    X(Init_thread, (int *argc, char ***argv, int wanted, int *provided))                                     \
    X(Initialized, (int *flag))                                                                              \
    X(Finalized, (int *flag))                                                                                \
    X(Finalize, (void))                                                                                      \
    X(Get_library_version, (char *text, int *length))                                                        \
    X(Error_string, (int error, char *text, int *length))                                                    \
    X(Comm_set_errhandler, (void *comm, void *handler))                                                      \
    X(Comm_rank, (void *comm, int *rank))                                                                    \
    X(Comm_size, (void *comm, int *size))                                                                    \
    X(Bcast, (void *data, int count, void *type, int root, void *comm))                                      \
    X(Isend, (const void *data, int count, void *type, int to, int tag, void *comm, void **request))         \
    X(Irecv, (void *data, int count, void *type, int from, int tag, void *comm, void **request))             \
    X(Testall, (int count, void **requests, int *done, OpenMpiStatus *statuses))

/* Objects by the names of their symbols. */
#define OPENMPI_OBJECTS(X)                                                                                   \
    X(comm_world, "ompi_mpi_comm_world")                                                                     \
    X(byte, "ompi_mpi_byte")                                                                                 \
    X(errors_return, "ompi_mpi_errors_return")

typedef struct OpenMpi {
#define X(name, arguments) int(*name) arguments;
    OPENMPI_FUNCTIONS(X)
#undef X
#define X(name, symbol) void *name;
    OPENMPI_OBJECTS(X)
#undef X
} OpenMpi;

#endif
