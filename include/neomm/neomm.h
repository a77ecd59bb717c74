/* libneomm: the memory manager of the NeoOS kernel. Includes the whole public contract.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_NEOMM_H
#define NEOMM_NEOMM_H

#include <neomm/config.h>
#include <neomm/cpu.h>
#include <neomm/handover.h>
#include <neomm/heap.h>
#include <neomm/kmem.h>
#include <neomm/pager.h>
#include <neomm/paging.h>
#include <neomm/pmm.h>
#include <neomm/port.h>
#include <neomm/pressure.h>
#include <neomm/readahead.h>
#include <neomm/root.h>
#include <neomm/stats.h>
#include <neomm/swap.h>
#include <neomm/types.h>
#include <neomm/vmm.h>

#define NEOMM_VERSION_MAJOR 0
#define NEOMM_VERSION_MINOR 1
#define NEOMM_VERSION_PATCH 0

#endif
