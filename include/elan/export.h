#pragma once

// Marks what libelan-sr.so exports; everything else is hidden.
#define ELAN_API __attribute__((visibility("default")))
