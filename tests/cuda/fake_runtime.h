// As much of the CUDA runtime as slots use, for tests without a GPU: streams are queues, and what
// is in them happens only while somebody asks or waits for an event or a stream, in an order drawn
// from a seed that respects nothing but streams and events.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

namespace elan::test {

// A device without streams and events; its memory is filled with bytes that mean nothing.
void start_device(unsigned seed);

// A kernel.
void enqueue(cudaStream_t stream, std::function<void()> work);

// Whether all streams are empty.
bool idle();

// Buffers and events that have not been given back.
std::size_t live();

// The copy after `copies` more that are enqueued, or the allocation, fails.
void fail_copy(int copies);
void fail_allocation(int allocations);

}  // namespace elan::test
