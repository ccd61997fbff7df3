extension TensorOutput {
  /// Moves the output to its final name in one step, replacing a file that is there.
  ///
  /// All programs on this machine see the whole file from then on. Nothing waits for the disk, neither
  /// `msync` nor `fsync`: pages written through a map are in the page cache already, and only a crash of the
  /// machine could lose them, which a computation that can be repeated need not pay for.
  ///
  /// - Throws: ``TensorFileError/Code/cannotCommit``, and then the output is as before and a second attempt
  ///   is possible; ``TensorFileError/Code/alreadyCommitted``.
  public func commit() throws(TensorFileError) { try Self.commit([self]) }

  /// Moves several outputs to their final names: all of them or, as far as the system allows, none.
  ///
  /// Everything that may need space or permission is done for all of them before the first one appears;
  /// what remains is one renaming each. If one of those fails, the outputs that have appeared disappear
  /// again, except where they replaced another file; the error names these. A program killed between two
  /// renamings leaves those that were done.
  ///
  /// - Parameter outputs: The outputs, each with a path of its own.
  /// - Throws: ``TensorFileError`` with the code ``TensorFileError/Code/cannotCommit`` or
  ///   ``TensorFileError/Code/alreadyCommitted``, about the output that failed.
  public static func commit(_ outputs: [TensorOutput]) throws(TensorFileError) {
    var identities: Set<FileIdentity> = []
    for output in outputs {
      let identity = try output.withUncommittedFile { file in file.identity }
      guard identities.insert(identity).inserted else {
        throw output.error(.cannotCommit, "two outputs have this path")
      }
    }
    for output in outputs {
      try output.withUncommittedFile { (file) throws(TensorFileFault) in try file.link() }
    }

    var published: [(output: TensorOutput, replaced: Bool)] = []
    for output in outputs {
      do {
        let replaced = try output.withUncommittedFile { (file) throws(TensorFileFault) in try file.publish() }
        published.append((output, replaced))
      } catch {
        throw undo(published, after: error)
      }
    }
    for output in outputs { output.settle() }
  }

  /// Takes back what was published, except where that replaced another file.
  private static func undo(
    _ published: [(output: TensorOutput, replaced: Bool)], after error: TensorFileError
  ) -> TensorFileError {
    for (output, replaced) in published {
      if replaced {
        output.settle()
      } else {
        try? output.withUncommittedFile { file in file.withdraw() }
      }
    }
    let kept = published.filter(\.replaced).map(\.output.path.quoted)
    guard !kept.isEmpty else { return error }
    return TensorFileError(
      error.code, file: error.file, error.message + "; replaced already: " + kept.joined(separator: ", "))
  }

  /// Removes the hidden files of all outputs of this program that are not committed.
  ///
  /// For a handler of SIGINT or SIGTERM that ends the program: it is async-signal-safe. Where the file system
  /// knows files without a name there is nothing to remove but in the middle of a commit. The outputs cannot
  /// be committed afterwards.
  public static func removeTemporaries() { TemporaryNames.removeAll() }
}
