/* Case names on stdin, one a line; splits_final.json on stdout. For tests/oracle/plan.py. */
#include "base/err.h"
#include "base/own.h"
#include "plan/splits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    char *names[4096], line[512];
    int n = 0;
    while (n < 4096 && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        names[n++] = strdup(line);
    }
    struct vx_err err = {0};
    json_t *splits = vx_splits_create((const char *const *)names, n, &err);
    if (splits) {
        json_dumpf(splits, stdout, 0);
    } else {
        fprintf(stderr, "oracle_splits: %s\n", err.text);
    }
    json_decref(splits);
    for (int i = 0; i < n; i++) {
        free(names[i]);
    }
    return splits ? 0 : 1;
}
