import BatchLoss
import Foundation

/// What was measured on: processor, instruction set, libraries, threads, limits, commit.
struct Header {
  private let lines: [(name: String, value: String)]

  init(engine: Engine, scalar: ScalarName, isa: InstructionSet, limits: Limits?) {
    lines = [
      ("processor", Processor.name),
      ("instruction set", isa.rawValue),
      ("OpenBLAS", ProductProbe.libraryDescription),
      ("workers", "\(engine.configuration.workerCount), one BLAS thread each"),
      ("scalar", scalar.rawValue),
      ("limits", limits?.description),
      ("commit", Self.commit()),
    ].compactMap { name, value in value.map { (name, $0) } }
  }

  /// Prints the header and an empty line: on standard error where standard output holds JSON.
  func print(json: Bool) {
    let text =
      lines.map { $0.name.padding(toLength: 17, withPad: " ", startingAt: 0) + $0.value + "\n" }.joined() + "\n"
    (json ? FileHandle.standardError : FileHandle.standardOutput).write(Data(text.utf8))
  }

  /// The commit of the tree that this executable was built in, where it still lies in one.
  private static func commit() -> String? {
    let git = Process()
    git.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    let folder = Bundle.main.executableURL?.deletingLastPathComponent().path ?? "."
    git.arguments = ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*"]
    let output = Pipe()
    git.standardOutput = output
    git.standardError = FileHandle.nullDevice
    guard (try? git.run()) != nil else { return nil }
    let text = output.fileHandleForReading.readDataToEndOfFile()
    git.waitUntilExit()
    guard git.terminationStatus == 0 else { return nil }
    return String(decoding: text, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
