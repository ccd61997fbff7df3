import BatchLossFormulas
import Glibc

/// A level of vector instructions for which kernels were compiled.
///
/// The highest level that the processor has is chosen once per process. The environment variable
/// `BATCHLOSS_ISA` forces a lower one by name (`baseline`, `x86-64-v3`, `x86-64-v4`, `neon`).
public enum InstructionSet: String, Sendable, CaseIterable, Comparable {
  /// x86-64 as it was in 2003: SSE2.
  case baseline
  /// AVX2 and fused multiply-add.
  case x86v3 = "x86-64-v3"
  /// AVX-512 F, BW, CD, DQ and VL.
  case x86v4 = "x86-64-v4"
  /// 64-bit Arm.
  case neon

  /// Baseline first.
  public static func < (left: Self, right: Self) -> Bool {
    allCases.firstIndex(of: left)! < allCases.firstIndex(of: right)!
  }

  /// The levels that this processor can run, lowest first.
  public static let available: [InstructionSet] = {
    #if arch(x86_64)
      return allCases.filter { $0 != .neon && Processor.supports($0) }
    #else
      return [.neon]
    #endif
  }()

  /// The level in use: the highest available, or the one that `BATCHLOSS_ISA` names.
  /// - Throws: ``BatchLossError`` when `BATCHLOSS_ISA` names no level or one that this processor lacks.
  public static var current: InstructionSet {
    get throws(BatchLossError) { try chosen.get() }
  }

  private static let chosen: Result<InstructionSet, BatchLossError> = {
    guard let forced = getenv("BATCHLOSS_ISA").map({ String(cString: $0) }), !forced.isEmpty else {
      return .success(available.last ?? .baseline)
    }
    let names = available.map(\.rawValue).joined(separator: ", ")
    guard let level = InstructionSet(rawValue: forced), available.contains(level) else {
      return .failure(
        BatchLossError(
          .unsupportedInstructionSet, parameter: "BATCHLOSS_ISA", expected: "one of \(names)",
          actual: "'\(forced)'"))
    }
    return .success(level)
  }()
}
