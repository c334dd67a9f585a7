/* `atelier model convert`, one of the commands of `atelier model`. */
#ifndef ATL_MODEL_CONVERT_H
#define ATL_MODEL_CONVERT_H

int command_model_convert(int argc, char **argv);

#endif
