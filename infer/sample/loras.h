/* The LoRAs of a picture: those of the command line, and those that its prompt names. */
#ifndef ATL_SAMPLE_LORAS_H
#define ATL_SAMPLE_LORAS_H

#include "options.h"

/* Reads "FILE[:STRENGTH…]" of --lora, and takes "<lora:NAME:…>" out of the prompt, whose files lie in
 * --lora-dir. A prompt's tags are read where its syntax is A1111's or there is a folder; elsewhere they are
 * words. */
Status sample_loras_read(SampleArguments *a);
void sample_loras_free(SampleArguments *a);

#endif
