/* System calls of the demo kernel, for C and assembly.
 * SPDX-License-Identifier: MIT */
#ifndef KERNEL_USER_H
#define KERNEL_USER_H

#define USER_VECTOR     0x80
#define USER_CALL_EXIT  1 /* code */
#define USER_CALL_WRITE 2 /* address, length; A: 0 or a negative status */

#endif
