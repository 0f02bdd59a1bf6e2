# Check and bench of the CUDA backend: only the engine is needed, no GoogleTest, no picture files.
foreach(program gpu-check cuda-bench)
  add_executable(${program})
  target_include_directories(${program} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${program} PRIVATE elan-sr-internal elan-sr-flags)
  target_compile_definitions(${program} PRIVATE
    ELANSR_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data" ELANSR_MODELS="${PROJECT_SOURCE_DIR}/models")
endforeach()
target_sources(gpu-check PRIVATE
  tests/cuda/gpu_check.cc
  tests/cuda/check/accuracy.cc
  tests/cuda/check/behaviour.cc
  tests/cuda/check/check.cc
  tests/cuda/check/device_pictures.cc
  tests/cuda/check/integers.cc
  tests/cuda/check/mixed.cc
  tests/cuda/check/quality.cc
  tests/cuda/check/robustness.cc)
target_sources(cuda-bench PRIVATE bench/cuda_bench.cc)

# The example for pictures on the device, as others would build it: the shared library and the
# CUDA runtime alone.
add_executable(upscale-cuda examples/upscale_cuda/upscale_cuda.cc)
target_link_libraries(upscale-cuda PRIVATE elan-sr CUDA::cudart_static)
