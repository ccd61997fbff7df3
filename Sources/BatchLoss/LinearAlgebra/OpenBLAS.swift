import BatchLossCBLAS
import Glibc

/// Settings of OpenBLAS, which are process-wide, made once before the first product.
package enum OpenBLAS {
  /// One thread a call, and kernels that fit the processor.
  static let isPrepared: Bool = {
    chooseCore()
    openblas_set_num_threads(1)
    return true
  }()

  /// The kernels in use, as OpenBLAS names them.
  package static var coreName: String {
    _ = isPrepared
    return openblas_get_corename().map { String(cString: $0) } ?? "unknown"
  }

  /// Rows and columns of a product that OpenBLAS takes from its factors where they lie: up to 100³ multiplications, with the
  /// kernels for AVX-512 of version 0.3.21 (its kernel/x86_64/sgemm_small_kernel_permit_skylakex.c). `nil` where it copies
  /// all factors, or where too few rows would be left. A build without these kernels is slower by parts, not wrong.
  package static func smallProduct(depth: Int) -> (rows: Int, columns: Int)? {
    guard leavesSmallFactors else { return nil }
    // Its kernels have twelve rows. Few columns, so that theirs stay in the first-level cache.
    let (columns, kernelRows) = (32, 12)
    let rows = min(240, 1_000_000 / (columns * max(1, depth)) / kernelRows * kernelRows)
    return rows > 0 ? (rows, columns) : nil
  }

  private static let leavesSmallFactors = ["skylakex", "cooperlake", "sapphirerapids"].contains(
    coreName.lowercased())

  /// An OpenBLAS older than the processor takes it for one of 2004 ("Prescott") and is ten times slower than it
  /// could be. Then, and unless `OPENBLAS_CORETYPE` is set, its start is repeated with the kernels of the
  /// instruction set that is present.
  private static func chooseCore() {
    #if arch(x86_64)
      guard getenv("OPENBLAS_CORETYPE") == nil, let name = openblas_get_corename(),
        ["prescott", "core2", "nehalem"].contains(String(cString: name).lowercased())
      else { return }
      let available = InstructionSet.available
      let core = available.contains(.x86v4) ? "SkylakeX" : available.contains(.x86v3) ? "Haswell" : nil
      guard let core, let quit = dlsym(nil, "gotoblas_dynamic_quit"),
        let start = dlsym(nil, "gotoblas_dynamic_init")
      else { return }
      typealias Function = @convention(c) () -> Void
      setenv("OPENBLAS_CORETYPE", core, 1)
      unsafeBitCast(quit, to: Function.self)()
      unsafeBitCast(start, to: Function.self)()
      unsetenv("OPENBLAS_CORETYPE")
    #endif
  }
}
