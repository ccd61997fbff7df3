import Foundation

/// A line on standard error that says how far long work is, when a person looks on.
final class Progress {
  private let total: Int
  private let label: String
  private let isShown = isatty(STDERR_FILENO) == 1
  private let start = DispatchTime.now()
  private var hasPrinted = false

  init(total: Int, label: String) {
    self.total = total
    self.label = label
  }

  func advance(to done: Int) {
    let elapsed = Double(DispatchTime.now().uptimeNanoseconds - start.uptimeNanoseconds) / 1e9
    guard isShown, elapsed > 1 else { return }
    let remaining = elapsed * Double(total - done) / Double(max(done, 1))
    let line = String(format: "\r%@ %3d %%, %.0f s left ", label, done * 100 / max(total, 1), remaining)
    FileHandle.standardError.write(Data(line.utf8))
    hasPrinted = true
  }

  func finish() {
    if hasPrinted { FileHandle.standardError.write(Data("\r\u{1b}[K".utf8)) }
  }
}
