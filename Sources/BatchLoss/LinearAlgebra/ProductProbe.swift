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
    let share = (rows + columns) * depth + rows * columns
    let scratch = engine.borrowWorkspace()
    defer { engine.giveBack(scratch) }
    nonisolated(unsafe) let memory = scratch.buffer(of: Scalar.self, count: workers * share)
    memory.update(repeating: 0.5, count: workers * share)
    let clock = ContinuousClock()
    let times = (0..<repeats).map { _ in
      clock.measure {
        engine.forEachBlock(workers) { worker, _ in
          let left = memory + worker * share
          let right = left + rows * depth
          let result = right + columns * depth
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
