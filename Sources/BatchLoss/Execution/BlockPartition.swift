/// Equal blocks of a range; the last one may be shorter. The borders depend on the arguments alone.
struct BlockPartition {
  let count: Int
  let blockSize: Int

  init(of count: Int, blockSize: Int) {
    self.count = count
    self.blockSize = max(1, blockSize)
  }

  /// The number of blocks.
  var blocks: Int { (count + blockSize - 1) / blockSize }

  subscript(block: Int) -> Range<Int> {
    let start = block * blockSize
    return start..<min(start + blockSize, count)
  }
}
