// swift-tools-version: 6.2
import PackageDescription

// A package that depends on a released version of BatchLoss. Scripts/check_client.sh builds and runs it.
let package = Package(
  name: "client",
  dependencies: [.package(url: "BATCHLOSS_URL", from: "1.0.0")],
  targets: [.executableTarget(name: "client", dependencies: [.product(name: "BatchLoss", package: "BatchLoss")])],
  swiftLanguageModes: [.v6]
)
