/* Reading memory_manager.conf from a file.
 * SPDX-License-Identifier: MIT */
#include "config_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_LIMIT ((size_t)1 << 20)

static void print_message(void *context, enum neomm_config_level level, const char *text)
{
    (void)context, (void)level;
    fprintf(stderr, "%s\n", text);
}

/* The whole file, to be freed; NULL with the reason in *why. */
static char *read_whole(const char *path, size_t *length, const char **why)
{
    char *text = malloc(SIZE_LIMIT);
    FILE *file = text ? fopen(path, "rb") : NULL;
    *why = NULL;
    if (file) {
        *length = fread(text, 1, SIZE_LIMIT, file);
        if (ferror(file))
            *why = strerror(errno);
        else if (!feof(file))
            *why = "larger than 1 MiB";
        fclose(file);
    } else {
        *why = strerror(errno);
    }
    if (!*why)
        return text;
    free(text);
    return NULL;
}

bool config_file_read(struct neomm_config *config, const char *path)
{
    const char *why;
    size_t length = 0;
    uint32_t errors;
    neomm_config_default(config);
    char *text = read_whole(path, &length, &why);
    if (!text) {
        fprintf(stderr, "%s: error: %s\n", path, why);
        return false;
    }
    neomm_config_parse(config, path, text, length, true, print_message, NULL, &errors);
    free(text);
    return errors == 0;
}
