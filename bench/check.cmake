# Runs the benchmarks of one layer shortly; what they print must be the JSON that is promised.
# SPDX-License-Identifier: MIT

execute_process(COMMAND ${BENCH} ${LAYER} --json --runs 2 --quick
  OUTPUT_VARIABLE output RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "neomm-bench ${LAYER} ended with ${status}")
endif()
string(JSON count LENGTH "${output}")
if(count LESS 2)
  message(FATAL_ERROR "${count} results")
endif()
# Rows that no machine of its own measures.
if(LAYER STREQUAL "swap")
  foreach(name replay-sqlite-10-adaptive-misses replay-mean-clock-tests)
    if(NOT output MATCHES "\"swap/${name}\"")
      message(FATAL_ERROR "no swap/${name}")
    endif()
  endforeach()
endif()
# Counts, which are the same in every run: 32 pages are one submission and two calls to the other
# CPU, 16 pages read together are one submission, copies that are good need neither, and nothing is
# allocated but frames for what comes back.
set(pins cost-random-out-submissions=0.031 cost-random-out-transfers=1.000 cost-random-out-calls=0.062
  cost-random-out-frame-allocs=0.000 cost-random-out-kmallocs=0.000 cost-random-out-entry-stores=2.000
  cost-random-out-clean-submissions=0.000 cost-random-out-clean-calls=0.031
  cost-random-in-submissions=1.000 cost-random-in-ahead-submissions=0.062 cost-random-in-kmallocs=0.000
  cost-random-in-frame-allocs=1.000 cost-random-in-entry-stores=1.000 cost-random-in-calls=0.000
  cost-text-out-submissions=0.000 cost-text-out-codec-calls=1.000 cost-text-in-codec-calls=1.000
  cost-text-in-transfers=0.000 cost-filled-out-transfers=0.000 cost-filled-out-codec-calls=0.000)
if(LAYER STREQUAL "swap")
  foreach(pin ${pins})
    string(REPLACE "=" ";" pin ${pin})
    list(GET pin 0 name)
    list(GET pin 1 value)
    if(NOT output MATCHES "\"swap/${name}\", \"unit\": \"per page\", \"ours\": ${value},")
      message(FATAL_ERROR "swap/${name} is not ${value}")
    endif()
  endforeach()
endif()
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  string(JSON name GET "${output}" ${i} name)
  string(JSON unit GET "${output}" ${i} unit)
  if(NOT name MATCHES "^${LAYER}/[a-z0-9-]+$" OR NOT unit MATCHES "^(ns(/[a-z]+)?|us/step|bits/frame|x|percent|KiB|cycles|misses|misses/OPT|tests/miss|faults|pages|relative|pages/s|per page)$")
    message(FATAL_ERROR "result ${i}: name '${name}', unit '${unit}'")
  endif()
  string(JSON peer_type TYPE "${output}" ${i} peer)
  string(JSON ratio_type TYPE "${output}" ${i} ratio)
  if(NOT peer_type MATCHES "^(NUMBER|NULL)$" OR NOT peer_type STREQUAL ratio_type)
    message(FATAL_ERROR "${name}: peer is ${peer_type}, ratio is ${ratio_type}")
  endif()
  string(JSON peer_name TYPE "${output}" ${i} peer_name)
  if(NOT peer_name MATCHES "^(STRING|NULL)$" OR peer_name STREQUAL "NULL" AND peer_type STREQUAL "NUMBER")
    message(FATAL_ERROR "${name}: peer is ${peer_type}, its name ${peer_name}")
  endif()
  foreach(key ours min max)
    string(JSON ${key} GET "${output}" ${i} ${key})
    if(NOT ${key} MATCHES "^[0-9]+(\\.[0-9]+)?$")
      message(FATAL_ERROR "${name}: ${key} is '${${key}}'")
    endif()
  endforeach()
  if(min GREATER ours OR ours GREATER max OR max LESS_EQUAL 0 AND NOT unit MATCHES "^(KiB|percent|per page|faults|pages)$")
    message(FATAL_ERROR "${name}: ${min} <= ${ours} <= ${max} does not hold")
  endif()
endforeach()
