# The GPU in the library: whether, with which toolkit, for which GPUs. CMakeLists.txt includes this between naming the
# library's sources and making the library. From it come
#
#     ATELIER_WITH_CUDA   whether kernels/cuda is built in
#     LIBRARY_SOURCES     without kernels/cuda/absent.c then, and else with nothing else of kernels/cuda
#     CUDA_OBJECTS        the kernels, compiled by nvcc
#     CUDA_LIBRARIES      what is linked: the runtime, static. cuBLASLt and the driver are opened when they are wanted
#     CUDA_RPATH          where cuBLASLt lies, if that is no place that the loader knows
#     CUDA_TESTED         whether the tests of GPUs run on this machine's; else they run on the host (tests/cuda)
#
# nvcc is called directly, not through CMake's own CUDA language: that one wants a toolkit in one folder with a lib64,
# which wheels and distributions are not. scripts/cuda/find knows them all.
set(ATELIER_CUDA AUTO CACHE STRING
    "GPUs: ON (without a toolkit that is an error), OFF, or AUTO: where there are a toolkit and a GPU")
set_property(CACHE ATELIER_CUDA PROPERTY STRINGS AUTO ON OFF)
set(ATELIER_CUDA_ARCHITECTURES "" CACHE STRING
    "Compute capabilities to compile for, as 86;89, or all; empty: with AUTO this machine's GPUs', with ON all")
set(ATELIER_CUDA_TESTED OFF CACHE BOOL "The tests of GPUs need one, though there is none here: they run elsewhere")
set(ATELIER_CUDA_FLAGS "" CACHE STRING "Further options for nvcc, as -lineinfo")
set(ATELIER_WITH_CUDA OFF)
set(CUDA_OBJECTS)
set(CUDA_LIBRARIES)
set(CUDA_RPATH)

# This machine's GPUs that can be used, as compute capabilities: 86;89.
function(cuda_gpus_here out)
    find_program(NVIDIA_SMI nvidia-smi PATHS /usr/lib/wsl/lib)
    mark_as_advanced(NVIDIA_SMI)
    set(found)
    if(NVIDIA_SMI)
        execute_process(COMMAND ${NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                        OUTPUT_VARIABLE said ERROR_QUIET)
        string(REGEX MATCHALL "[0-9]+\\.[0-9]" said "${said}")
        string(REPLACE "." "" said "${said}")
        list(REMOVE_DUPLICATES said)
        foreach(gpu ${said})
            if(NOT gpu LESS 75)
                list(APPEND found ${gpu})
            endif()
        endforeach()
    endif()
    set(${out} "${found}" PARENT_SCOPE)
endfunction()

# What scripts/cuda/find says, as CUDA_nvcc and so on, asked once for a build folder.
macro(cuda_find)
    if(NOT CUDA_nvcc OR NOT EXISTS "${CUDA_nvcc}")
        execute_process(COMMAND bash ${CMAKE_SOURCE_DIR}/scripts/cuda/find
                        OUTPUT_VARIABLE cuda_said ERROR_VARIABLE cuda_why RESULT_VARIABLE cuda_failed)
        string(STRIP "${cuda_why}" cuda_why)
        if(NOT cuda_failed)
            string(REGEX MATCHALL "[^\n]+" cuda_lines "${cuda_said}")
            foreach(line ${cuda_lines})
                string(REGEX MATCH "^([a-z]+)=(.*)$" line "${line}")
                set(CUDA_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}" CACHE INTERNAL "from scripts/cuda/find")
            endforeach()
        endif()
    endif()
endmacro()

# The architectures to compile for; an error where the toolkit does not know one.
function(cuda_choose_architectures gpus out)
    string(REPLACE " " ";" known "${CUDA_architectures}")
    set(wanted ${ATELIER_CUDA_ARCHITECTURES})
    if(NOT wanted AND ATELIER_CUDA STREQUAL "AUTO")
        foreach(gpu ${gpus}) # the newest that is no newer than the GPU; the driver compiles for a later generation
            foreach(architecture ${known})
                if(NOT architecture GREATER gpu)
                    set(best ${architecture})
                endif()
            endforeach()
            list(APPEND wanted ${best})
        endforeach()
        list(REMOVE_DUPLICATES wanted)
    endif()
    if(NOT wanted OR wanted STREQUAL "all")
        set(wanted ${known})
    endif()
    foreach(architecture ${wanted})
        if(NOT architecture IN_LIST known)
            message(FATAL_ERROR "ATELIER_CUDA_ARCHITECTURES: ${architecture} is not among what CUDA ${CUDA_version} and "
                                "Atelier's kernels are for: ${CUDA_architectures}")
        endif()
    endforeach()
    list(SORT wanted COMPARE NATURAL)
    set(${out} "${wanted}" PARENT_SCOPE)
endfunction()

# The kernels' objects. What ptxas says of registers and memory lies beside each: scripts/cuda/registers reads it.
function(cuda_compile architectures out)
    set(codes)
    list(GET architectures -1 newest)
    foreach(architecture ${architectures})
        list(APPEND codes -gencode arch=compute_${architecture},code=sm_${architecture})
    endforeach()
    list(APPEND codes -gencode arch=compute_${newest},code=compute_${newest}) # for what comes later
    set(flags -std=c++17 -O3 -I${CMAKE_SOURCE_DIR} -D_GNU_SOURCE -ccbin ${CUDA_host}
              -Xcompiler=-fPIC,-Wall,-Wextra,-Wshadow -Xptxas=-v ${ATELIER_CUDA_FLAGS})
    if(ATELIER_WERROR)
        list(APPEND flags -Werror=all-warnings -Xcompiler=-Werror)
    endif()
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS kernels/cuda/*.cu)
    set(objects)
    foreach(source ${sources})
        get_filename_component(name ${source} NAME)
        set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
        add_custom_command(
            OUTPUT ${object}
            BYPRODUCTS ${object}.ptxas
            COMMAND bash ${CMAKE_SOURCE_DIR}/scripts/cuda/nvcc ${object}.ptxas ${CMAKE_C_COMPILER_LAUNCHER} ${CUDA_nvcc}
                    ${flags} ${codes} -MD -MF ${object}.d -c ${source} -o ${object}
            DEPENDS ${source}
            DEPFILE ${object}.d
            COMMENT "nvcc ${name}"
            VERBATIM)
        list(APPEND objects ${object})
    endforeach()
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
    set(${out} "${objects}" PARENT_SCOPE)
endfunction()

if(NOT ATELIER_CUDA MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "ATELIER_CUDA=${ATELIER_CUDA}: it is one of AUTO, ON, OFF")
endif()
set(gpus)
if(ATELIER_CUDA STREQUAL "ON")
    cuda_find()
    if(NOT CUDA_nvcc)
        message(FATAL_ERROR "ATELIER_CUDA=ON, but no CUDA toolkit builds here. scripts/setup --cuda installs one; one "
                            "that is somewhere else is named by CUDA_HOME=FOLDER in the environment.\n${cuda_why}")
    endif()
    cuda_gpus_here(gpus)
    set(ATELIER_WITH_CUDA ON)
elseif(ATELIER_CUDA STREQUAL "AUTO" AND NOT ATELIER_SANITIZE)
    cuda_gpus_here(gpus)
    if(gpus)
        cuda_find()
    endif()
    if(CUDA_nvcc AND gpus)
        set(ATELIER_WITH_CUDA ON)
    elseif(gpus)
        message(STATUS "CUDA: there is a GPU here, but no toolkit: built without. scripts/setup --cuda installs one")
        if(cuda_why)
            message(STATUS "${cuda_why}")
        endif()
    else()
        message(STATUS "CUDA: no GPU here: built without (-DATELIER_CUDA=ON builds it in all the same)")
    endif()
else()
    message(STATUS "CUDA: built without")
endif()

set(CUDA_TESTED OFF)
if(ATELIER_WITH_CUDA AND (gpus OR ATELIER_CUDA_TESTED))
    set(CUDA_TESTED ON)
endif()

file(GLOB_RECURSE cuda_files CONFIGURE_DEPENDS kernels/cuda/*.c)
set(absent ${CMAKE_SOURCE_DIR}/kernels/cuda/absent.c)
if(ATELIER_WITH_CUDA)
    cuda_choose_architectures("${gpus}" cuda_architectures)
    cuda_compile("${cuda_architectures}" CUDA_OBJECTS)
    list(REMOVE_ITEM LIBRARY_SOURCES ${absent})
    list(REMOVE_ITEM cuda_files ${absent})
    list(APPEND LIBRARY_SOURCES ${cuda_files}) # those in folders below are in no pattern of the others'
    list(REMOVE_DUPLICATES LIBRARY_SOURCES)
    string(REGEX MATCH "^[0-9]+" cuda_release ${CUDA_version})
    # Headers of a toolkit are no matter of this program's warnings.
    set_property(SOURCE ${cuda_files} APPEND PROPERTY COMPILE_OPTIONS -isystem ${CUDA_include})
    set_property(SOURCE ${cuda_files} APPEND PROPERTY COMPILE_DEFINITIONS ATL_CUDA_RELEASE=${cuda_release})
    list(JOIN cuda_architectures "," cuda_listed)
    set_property(SOURCE ${CMAKE_SOURCE_DIR}/kernels/cuda/cuda.c APPEND PROPERTY COMPILE_DEFINITIONS
                 ATL_CUDA_ARCHITECTURES=${cuda_listed})
    set(CUDA_LIBRARIES ${CUDA_cudart} rt)
    set(CUDA_RPATH ${CUDA_libraries})
    message(STATUS "CUDA: ${CUDA_version} (${CUDA_nvcc}, with ${CUDA_host}) for ${cuda_listed}")
else()
    list(REMOVE_ITEM cuda_files ${absent})
    list(REMOVE_ITEM LIBRARY_SOURCES ${cuda_files})
endif()
