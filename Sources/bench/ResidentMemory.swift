import Foundation

/// The memory of this process that is in RAM.
enum ResidentMemory {
  /// Makes `peak` start anew, where the kernel allows it (proc(5), clear_refs), after memory that was freed went back.
  static func resetPeak() {
    // Swift's module of glibc leaves malloc.h out.
    if let trim = dlsym(dlopen(nil, RTLD_NOW), "malloc_trim") {
      _ = unsafeBitCast(trim, to: (@convention(c) (Int) -> Int32).self)(0)
    }
    guard let file = fopen("/proc/self/clear_refs", "w") else { return }
    fputs("5", file)
    fclose(file)
  }

  /// The most bytes held since `resetPeak`, or since the process began.
  static var peak: Int {
    // The kernel reports kibibytes: "VmHWM:	    1964 kB".
    if let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
      let kibibytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Int($0) })
    {
      return kibibytes * 1024
    }
    var usage = rusage()
    getrusage(0 /* RUSAGE_SELF */, &usage)
    return usage.ru_maxrss * 1024
  }
}
