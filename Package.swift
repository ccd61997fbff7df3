// swift-tools-version: 6.2
import PackageDescription

// MARK: - Instruction sets

/// Kernels are compiled with optimisation even in debug builds, so that tests do not crawl.
let optimized = ["-Ounchecked"]

func kernelTarget(_ name: String, path: String, march: String? = nil, defines: [String]) -> Target {
  .target(
    name: name,
    dependencies: ["BatchLossFormulas", "BatchLossKernelInterface", "BatchLossInstructions"],
    path: path,
    swiftSettings: [.unsafeFlags(optimized + (march.map { ["-Xcc", "-march=\($0)"] } ?? []))]
      + defines.map { .define($0) })
}

#if arch(x86_64)
  let kernelTargets: [Target] = [
    kernelTarget("BatchLossKernels", path: "Sources/Kernels", defines: []),
    kernelTarget(
      "BatchLossKernelsX86V3", path: "Sources/KernelsX86V3", march: "x86-64-v3",
      defines: ["BATCHLOSS_FUSED", "BATCHLOSS_X86_V3"]),
    kernelTarget(
      "BatchLossKernelsX86V4", path: "Sources/KernelsX86V4", march: "x86-64-v4",
      defines: ["BATCHLOSS_FUSED", "BATCHLOSS_X86_V4"]),
  ]
#else
  let kernelTargets: [Target] = [
    kernelTarget("BatchLossKernels", path: "Sources/Kernels", defines: ["BATCHLOSS_FUSED"])
  ]
#endif

// MARK: - Package

let package = Package(
  name: "BatchLoss",
  products: [
    // Public API.
    .library(name: "BatchLoss", targets: ["BatchLoss"]),
    .executable(name: "batch-loss", targets: ["BatchLossTool"]),
    .executable(name: "bench", targets: ["BatchLossBench"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // Implementation details of the library.
    .systemLibrary(
      name: "BatchLossCBLAS", path: "Sources/CBLAS", pkgConfig: "openblas lapacke",
      providers: [.apt(["libopenblas-dev", "liblapacke-dev"]), .brew(["openblas", "lapack"])]),
    .systemLibrary(name: "BatchLossInstructions", path: "Sources/Instructions"),
    .target(
      name: "BatchLossFormulas", path: "Sources/Formulas",
      swiftSettings: [.unsafeFlags(optimized)]),
    .target(
      name: "BatchLossKernelInterface", path: "Sources/KernelInterface",
      swiftSettings: [.unsafeFlags(optimized)]),

    // The library.
    .target(
      name: "BatchLoss",
      dependencies: ["BatchLossCBLAS", "BatchLossFormulas", "BatchLossInstructions", "BatchLossKernelInterface"]
        + kernelTargets.map { .target(name: $0.name) },
      path: "Sources/BatchLoss",
      swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
    .target(name: "BatchLossTensorFiles", path: "Sources/TensorFiles"),

    // Commands.
    .target(
      name: "BatchLossCatalog", dependencies: ["BatchLoss", "BatchLossTensorFiles"], path: "Sources/LossCatalog",
      swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
    .executableTarget(
      name: "BatchLossTool",
      dependencies: [
        "BatchLoss", "BatchLossCatalog", "BatchLossTensorFiles",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/BatchLossTool"),
    .executableTarget(
      name: "BatchLossBench",
      dependencies: [
        "BatchLoss", "BatchLossCatalog", "BatchLossKernelInterface", "BatchLossTensorFiles",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/bench"),

    // Tests.
    .target(
      name: "BatchLossTestSupport",
      dependencies: ["BatchLoss", "BatchLossFormulas", "BatchLossKernelInterface"],
      path: "Tests/TestSupport", swiftSettings: [.unsafeFlags(["-O"])]),
    .testTarget(
      name: "BatchLossTests",
      dependencies: [
        "BatchLoss", "BatchLossCatalog", "BatchLossFormulas", "BatchLossKernelInterface", "BatchLossTensorFiles",
        "BatchLossTestSupport",
      ],
      path: "Tests/BatchLossTests"),
    .executableTarget(
      name: "BatchLossAccuracy",
      dependencies: [
        "BatchLoss", "BatchLossCatalog", "BatchLossKernelInterface", "BatchLossTestSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Tests/Accuracy"),
    .testTarget(
      name: "BatchLossTensorFilesTests", dependencies: ["BatchLossTensorFiles"],
      path: "Tests/TensorFilesTests", exclude: ["Fixtures"]),
  ] + kernelTargets,
  swiftLanguageModes: [.v6]
)
