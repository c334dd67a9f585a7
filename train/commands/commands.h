/* The commands of the program, one file each; `sample` is infer/sample/sample.h's. argv[0] is the command's
 * own name. Each returns the exit status and has printed its failure. */
#ifndef ATL_COMMANDS_H
#define ATL_COMMANDS_H

int command_train(int argc, char **argv);
int command_data(int argc, char **argv);
int command_config(int argc, char **argv);
int command_lora(int argc, char **argv);
int command_model(int argc, char **argv);
int command_picture(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_doctor(int argc, char **argv);

#endif
