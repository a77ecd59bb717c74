/* The commands of `neomm`: each gets its own name as argv[0] and returns the exit status.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TOOLS_COMMANDS_H
#define NEOMM_TOOLS_COMMANDS_H

int command_map(int argc, char **argv);
int command_replay(int argc, char **argv);

#endif
