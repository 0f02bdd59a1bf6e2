# The CUDA backend: built when a compiler is found. ELANSR_HAVE_CUDA says whether.
#
# nvcc is looked for in the usual places and where scripts/install-cuda-toolkit.sh puts it. The
# runtime is linked statically, so a program with the backend starts on machines without a driver.
set(ELANSR_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING
  "GPU architectures to build for; the preset release-cuda has all of them and PTX of the newest")
set(ELANSR_HAVE_CUDA OFF)

if(NOT ELANSR_CUDA STREQUAL "OFF")
  find_program(ELANSR_NVCC nvcc HINTS
    "${PROJECT_SOURCE_DIR}/build/cuda-toolkit/bin" "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin" /usr/local/cuda/bin)
  if(ELANSR_NVCC)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES "${ELANSR_CUDA_ARCHITECTURES}")
    endif()
    if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
      set(CMAKE_CUDA_COMPILER "${ELANSR_NVCC}")
    endif()
    enable_language(CUDA)
    # CMake before 3.26 does not know how to ask this compiler for C++20.
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    find_package(CUDAToolkit REQUIRED)
    set(ELANSR_HAVE_CUDA ON)
    target_link_libraries(elan-sr-flags INTERFACE CUDA::cudart_static)
    target_compile_definitions(elan-sr-flags INTERFACE ELANSR_HAVE_CUDA=1)
    # 177: this nvcc takes variables used in an aggregate's initializer for unused ones.
    target_compile_options(elan-sr-flags INTERFACE
      "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-diag-suppress=177;-lineinfo>")
    message(STATUS "CUDA backend: nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(ELANSR_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ELANSR_CUDA is ON: expected nvcc, found none; "
      "scripts/install-cuda-toolkit.sh fetches one into the tree")
  else()
    message(STATUS "CUDA backend: not built, no nvcc found")
  endif()
endif()
