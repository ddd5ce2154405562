/* The C interface of analog-cim-sim (https://github.com/rpelke/analog-cim-sim), as far as the network calls it.
   The library holds one crossbar. Every argument is given: its default arguments are C++. */
#ifndef ACS_H
#define ACS_H

#include <stdint.h>

/* Reads the JSON file `path` and makes the crossbar. The library ends the process where the file is wrong. */
void set_config(const char* path, int threads);
/* Merges the keys of `json`; 0, or -1 before set_config. */
int32_t update_config(const char* json, const char* layer);
/* Writes mat [m, n], m outputs and n inputs, to the crossbar; 0, or -1 where it is larger than the crossbar. */
int32_t cpy_mtrx(int32_t* mat, int32_t m, int32_t n, const char* layer);
/* Adds the product of the written matrix with vec [n] to res [m]; 0, or -1 as above. */
int32_t exe_mvm(int32_t* res, int32_t* vec, int32_t* mat, int32_t m, int32_t n, const char* layer);

#endif
