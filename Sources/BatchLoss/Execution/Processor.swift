import Foundation

/// What the operating system says of the processor.
package enum Processor {
  /// The model name, or "unknown".
  package static let name: String = field("model name") ?? "unknown"

  /// The size of the last-level cache in bytes; 32 MiB when the system does not say.
  package static let lastLevelCacheBytes: Int = {
    let reported = sysconf(Int32(_SC_LEVEL3_CACHE_SIZE))
    return reported > 0 ? reported : 32 << 20
  }()

  /// The features that the kernel has enabled, by their names in /proc/cpuinfo.
  private static let flags: Set<Substring> = Set((field("flags") ?? "").split(separator: " "))

  /// Whether every instruction of a level can run here, registers saved by the kernel included.
  static func supports(_ level: InstructionSet) -> Bool {
    switch level {
    case .baseline: true
    case .x86v3: flags.isSuperset(of: ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])
    case .x86v4:
      supports(.x86v3) && flags.isSuperset(of: ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])
    case .neon: false
    }
  }

  private static func field(_ name: String) -> String? {
    guard let text = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8) else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix(name) {
      guard let colon = line.firstIndex(of: ":") else { continue }
      return line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    return nil
  }
}

extension Processor {
  /// Processors that can run threads now.
  static var activeCount: Int { max(1, min(1024, ProcessInfo.processInfo.activeProcessorCount)) }
}
