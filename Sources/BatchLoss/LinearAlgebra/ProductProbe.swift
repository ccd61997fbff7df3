import BatchLossCBLAS
import BatchLossFormulas

/// Measures what matrix products reach: the limit of losses that are made of them.
package struct ProductProbe {
  private let engine: Engine
  private let depth: Int

  package init(engine: Engine, depth: Int) {
    self.engine = engine
    self.depth = depth
  }

  /// The OpenBLAS in use: version, build options and kernels.
  package static var libraryDescription: String {
    let core = OpenBLAS.coreName
    let configuration = openblas_get_config().map { String(cString: $0) } ?? "unknown"
    return "\(configuration.split(separator: " ").joined(separator: " ")), kernels \(core)"
  }

  /// Operations a second of one-thread products A·Bᵀ of 512×`depth` by 1024×`depth` on every worker at once;
  /// the best of `repeats` runs.
  package func flopsPerSecond<Scalar: LossScalar>(of: Scalar.Type, repeats: Int) -> Double {
    let (rows, columns) = (512, 1024)
    let workers = engine.configuration.workerCount
    let products = max(1, (1 << 28) / (rows * columns * depth))
    let clock = ContinuousClock()
    let times = (0..<repeats).map { _ in
      clock.measure {
        engine.forEachBlock(workers) { _, workspace in
          let memory = workspace.buffer(of: Scalar.self, count: (rows + columns) * depth + rows * columns)
          let (left, right) = (memory, memory + rows * depth)
          let result = right + columns * depth
          memory.initialize(repeating: 0.5, count: (rows + columns) * depth)
          for _ in 0..<products {
            MatrixProduct.run(
              rows: rows, columns: columns, depth: depth, Factor(UnsafePointer(left), stride: depth),
              Factor(UnsafePointer(right), stride: depth, transposed: true), adds: false, result,
              stride: columns)
          }
        }
      }
    }
    let seconds = times.min()! / .seconds(1)
    return 2 * Double(rows * columns) * Double(depth * products * workers) / seconds
  }
}
