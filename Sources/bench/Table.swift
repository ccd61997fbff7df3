import BatchLoss
import Foundation

/// Aligned lines with a bar for the fraction of the limit reached.
struct Table {
  static let header =
    "workload                        shape              median ms    min ms  spread   limit ms"
    + "  MiB peak  of the limit"

  func line(_ row: Measurement) -> String {
    let filled = max(0, min(20, Int((row.fractionOfLimit * 20).rounded())))
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 20 - filled)
    return row.name.padding(toLength: 32, withPad: " ", startingAt: 0)
      + row.shape.padding(toLength: 18, withPad: " ", startingAt: 0)
      + String(
        format: "%10.3f%10.3f%7.0f%%%11.3f%10d  ", row.medianMilliseconds, row.minimumMilliseconds,
        row.spread * 100, row.limitMilliseconds, row.peakResidentBytes >> 20)
      + bar + String(format: " %3.0f%%", row.fractionOfLimit * 100)
  }
}

/// What was measured on: processor, instruction set, libraries, threads, commit.
struct Header {
  let text: String

  init(engine: Engine) throws {
    let commit = Self.commit().map { "commit           \($0)" }
    text =
      ([
        "processor        \(Processor.name)",
        "instruction set  \(try InstructionSet.current.rawValue)",
        "OpenBLAS         \(ProductProbe.libraryDescription)",
        "workers          \(engine.configuration.workerCount), one BLAS thread each",
      ] + [commit].compactMap { $0 } + ["", Table.header]).joined(separator: "\n")
  }

  /// The commit of the working directory, where there is one.
  private static func commit() -> String? {
    let git = Process()
    git.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    git.arguments = ["git", "describe", "--always", "--dirty"]
    let output = Pipe()
    git.standardOutput = output
    git.standardError = FileHandle.nullDevice
    guard (try? git.run()) != nil else { return nil }
    git.waitUntilExit()
    guard git.terminationStatus == 0 else { return nil }
    return String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
