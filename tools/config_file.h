/* Reading memory_manager.conf from a file.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TOOLS_CONFIG_FILE_H
#define NEOMM_TOOLS_CONFIG_FILE_H

#include <neomm/config.h>

/* Reads `path` over the defaults, strictly. Every mistake goes to stderr as path:line:column, and
 * so does a file that cannot be read; false then. */
bool config_file_read(struct neomm_config *config, const char *path);

#endif
