#include "cuda/kernels/ptx.cuh"
#include "cuda/kernels/wgmma.cuh"
#include "probe_kernels.h"

namespace elan::emulator {
namespace {

using namespace elan::cuda;

template <Fault F>
__global__ void reverse(const __grid_constant__ ReverseArgs p) {
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ float last[32];
  float* values = reinterpret_cast<float*>(shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, zero = p.zero;
  if (F != Fault::early) wait_for_previous();
  if (thread < 16) cp_async16(values + 4 * thread, p.in + 4 * thread);
  if (F != Fault::no_copy_commit) cp_async_commit();
  if (F != Fault::no_copy_wait) cp_async_wait<0>();
  if (F != Fault::no_barrier) __syncthreads();
  if (F == Fault::half_a_barrier && thread < 32) __syncthreads();
  float v = values[63 - thread];
  if (F == Fault::past_global) v += p.in[thread + 1];
  if (F == Fault::past_shared) v += values[thread + 1];
  if (F == Fault::unwritten_global) v += p.out[thread];
  if (zero != 0) last[lane] = v;
  if (F == Fault::unwritten_shared) v += last[lane];
  if (F == Fault::misaligned) v += reinterpret_cast<const float2*>(p.in + 1 + zero)->x;
  if (F == Fault::index) {
    float few[4] = {v, v, v, v};
    v = few[(thread + zero) & 7];
  }
  if (F == Fault::diverged) {
    v = lane < 16 ? __shfl_sync(~0U, v, lane) : static_cast<float>(__any_sync(~0U, 1));
  }
  if (F == Fault::no_warp_barrier) {
    if (thread < 32) last[lane] = v;
    if (thread < 32) v = last[31 - lane];
  }
  if (F == Fault::overwritten) values[thread] = v;  // others may not have read it yet
  p.out[F == Fault::blocks_share ? thread : static_cast<int>(blockIdx.x) * 64 + thread] = v;
}

template <Fault F>
void launch(const ReverseArgs& args) {
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(2);
  config.blockDim = dim3(64);
  config.dynamicSmemBytes = 64 * sizeof(float);
  config.attrs = &attribute;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, &reverse<F>, args);
}

template <typename Args>
void launch_one(void (*kernel)(Args), int threads, int shared, const Args& args) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared);
  cudaLaunchKernelEx(&config, kernel, args);
}

struct LoadArgs {
  const std::uint16_t* rows;
  std::uint32_t* r;
  bool transposed;
};
__global__ void load_kernel(const LoadArgs p) {
  ELAN_DYNAMIC_SHARED(shared);
  const int lane = static_cast<int>(threadIdx.x);
  auto* row = reinterpret_cast<uint4*>(shared) + lane;
  *row = reinterpret_cast<const uint4*>(p.rows)[lane];
  __syncwarp();
  std::uint32_t r[4];
  load_matrices(r, 4, shared_address(row), p.transposed);
  for (int i = 0; i < 4; ++i) p.r[lane * 4 + i] = r[i];
}

__global__ void multiply_kernel(const MultiplyArgs p) {
  const int lane = static_cast<int>(threadIdx.x);
  const bool words = p.a_format == Format::tf32;
  multiply(p.a_format, p.b_format,
           words                                                     ? 8
           : p.a_format == Format::f16 || p.a_format == Format::bf16 ? 16
                                                                     : 32,
           p.c + lane * 4, p.a + lane * 4, p.b + lane * 2);
}

__global__ void async_kernel(const AsyncArgs p) {
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ std::uint64_t full;
  const int thread = static_cast<int>(threadIdx.x);
  const std::uint32_t barrier = emulator::shared_address(&full);
  if (thread == 0) {
    barrier_init(barrier, 1);
    barrier_init_fence();
  }
  __syncthreads();
  const std::uint32_t begin = emulator::shared_address(shared);
  if (thread == 0) {
    barrier_expect(barrier, p.bytes);
    copy_bulk(begin, p.memory, p.bytes, barrier);
  }
  if (p.forget != 'w') barrier_wait(barrier, 0);
  if ((p.forget == 's' || p.forget == 'S') && thread == 0) {
    volatile char* last = shared + p.bytes - 1;
    *last = *last;
  }
  if (p.forget == 'S') proxy_fence();
  __syncthreads();
  std::uint32_t d[8], a[4];
  for (std::uint32_t& v : d) v = 0;
  if (p.a != nullptr) std::copy_n(p.a + thread * 4, 4, a);
  if (p.forget != 'f') multiply_fence();
  multiply_async(p.format, 2, d, p.a != nullptr ? a : nullptr,
                 p.a != nullptr ? 0 : p.a_descriptor + (begin >> 4), p.b_descriptor + (begin >> 4),
                 true);
  multiply_commit();
  if (p.forget != 'p') multiply_wait(0);
  std::copy_n(d, 8, p.d + thread * 8);
}

}  // namespace

void launch_reverse(Fault fault, const ReverseArgs& args) {
  using enum Fault;
  static constexpr void (*kLaunches[])(const ReverseArgs&) = {launch<none>,
                                                              launch<no_barrier>,
                                                              launch<no_copy_wait>,
                                                              launch<no_copy_commit>,
                                                              launch<past_global>,
                                                              launch<past_shared>,
                                                              launch<unwritten_global>,
                                                              launch<unwritten_shared>,
                                                              launch<misaligned>,
                                                              launch<index>,
                                                              launch<half_a_barrier>,
                                                              launch<diverged>,
                                                              launch<no_warp_barrier>,
                                                              launch<overwritten>,
                                                              launch<blocks_share>,
                                                              launch<early>};
  kLaunches[static_cast<int>(fault)](args);
}

void launch_load_matrices(const std::uint16_t* rows, std::uint32_t* r, bool transposed) {
  launch_one(&load_kernel, 32, 512, LoadArgs{rows, r, transposed});
}

void launch_multiply(const MultiplyArgs& args) {
  launch_one(&multiply_kernel, 32, 0, args);
}

void launch_async(const AsyncArgs& args) {
  launch_one(&async_kernel, 128, args.bytes, args);
}

}  // namespace elan::emulator
