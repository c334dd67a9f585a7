/* The engine's own arithmetic is compiled once for each instruction set: baseline, avx2, avx512
 * (CMakeLists.txt). ISA(f) gives each copy of a function its own name; vectors are the compiler's (16 floats:
 * one zmm, two ymm), so that one source serves all. table.c gathers a copy's functions into its Device; cpu.c
 * chooses one. */
#ifndef ATL_CPU_ISA_H
#define ATL_CPU_ISA_H

#include "kernels/device.h"

#define ISA_PASTE_(f, isa) f##_##isa
#define ISA_PASTE(f, isa) ISA_PASTE_(f, isa)
#define ISA(f) ISA_PASTE(f, ATL_ISA)

/* Fills in the whole table of one instruction set. */
void cpu_table_baseline(Device *d);
void cpu_table_avx2(Device *d);
void cpu_table_avx512(Device *d);

/* Whether the processor computes bf16 (avx512_bf16) and oneDNN may; whether it multiplies numbers of 8 bits,
 * in vectors of 512 bits (AVX-512 VNNI) or of 256 (AVX-VNNI). */
bool cpu_has_bf16(void);
bool cpu_has_int8(int vector_bits);

#endif
