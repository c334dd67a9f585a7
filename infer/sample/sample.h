/* `atelier sample`: the command that makes pictures from a prompt. argv[0] is the command's own name; returns
 * the exit status and has printed its failure. */
#ifndef ATL_SAMPLE_COMMAND_H
#define ATL_SAMPLE_COMMAND_H

int command_sample(int argc, char **argv);

#endif
