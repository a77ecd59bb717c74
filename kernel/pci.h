/* PCI configuration space, by mechanism #1.
 * SPDX-License-Identifier: MIT
 *
 * Source: PCI Local Bus Specification 3.0, 3.2.2.3.2 (ports CF8h and CFCh) and 6.1 (header).
 */
#ifndef KERNEL_PCI_H
#define KERNEL_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_COMMAND     0x04
#define PCI_BAR0        0x10
#define PCI_COMMAND_IO  0x1u
#define PCI_COMMAND_BUS 0x4u /* the device may read and write memory */

/* A function's place: bus << 8 | device << 3 | function. */
uint32_t pci_read(uint32_t place, uint8_t at);
void pci_write(uint32_t place, uint8_t at, uint32_t value);

/* The first function on bus 0 with these numbers; false: there is none. */
bool pci_find(uint16_t vendor, uint16_t device, uint32_t *place);

#endif
