import BatchLossFormulas
import Dispatch
import Synchronization

/// Runs the blocks of a batch in parallel and adds their results in order.
///
/// The engine cuts a batch into blocks, lets workers claim them, and adds the float64 results of the blocks in block
/// order. Where samples meet in a sum, the borders depend on the batch's shape alone: the same bits for any number of
/// workers. Scratch memory is kept between calls, so a repeated call allocates none.
///
/// An engine may be used from several threads at once. OpenBLAS is limited to one thread a call when the
/// first product is computed, since its own threads would compete with the engine's workers; the setting is
/// process-wide.
public final class Engine: Sendable {
  /// How many workers an engine has and how much memory they may keep.
  public struct Configuration: Hashable, Sendable {
    /// How many blocks are worked on at the same time.
    public let workerCount: Int
    /// How many bytes of intermediate results a call may hold, all workers together and padding aside, before it
    /// streams or recomputes them instead. Results are the same to the accuracy stated for the loss.
    public let workspaceBudget: Int

    /// A configuration; by default one worker for each active processor and 256 MiB.
    /// - Throws: ``BatchLossError`` when `workerCount` is not in 1…1024 or `workspaceBudget` is less than 1 MiB.
    public init(workerCount: Int? = nil, workspaceBudget: Int = 256 << 20) throws(BatchLossError) {
      let count = workerCount ?? Processor.activeCount
      guard (1...1024).contains(count) else {
        throw BatchLossError(
          .invalidParameter, parameter: "workerCount", expected: "a number from 1 to 1024", actual: "\(count)")
      }
      guard workspaceBudget >= 1 << 20 else {
        throw BatchLossError(
          .invalidParameter, parameter: "workspaceBudget", expected: "at least 1 MiB", actual: "\(workspaceBudget)")
      }
      self.init(validWorkerCount: count, workspaceBudget: workspaceBudget)
    }

    fileprivate init(validWorkerCount: Int, workspaceBudget: Int) {
      workerCount = validWorkerCount
      self.workspaceBudget = workspaceBudget
    }
  }

  /// The engine that every call uses unless it is given another one.
  public static let shared = Engine(
    configuration: Configuration(validWorkerCount: Processor.activeCount, workspaceBudget: 256 << 20))

  /// How this engine was set up.
  public let configuration: Configuration

  private let idle = Mutex<[Workspace]>([])
  private let team: WorkerTeam

  /// An engine of its own workers and workspaces.
  public init(configuration: Configuration) {
    self.configuration = configuration
    // Where workers outnumber processors, those that wait awake would be in the way of those that work.
    team = WorkerTeam(patience: configuration.workerCount <= Processor.activeCount ? 1_000_000 : 0)
  }

  /// How many times scratch memory had to be allocated or enlarged since the engine was made.
  ///
  /// Calls of one shape leave it as it is as soon as every worker has had a block of it.
  public var workspaceAllocations: Int { idle.withLock { $0.reduce(0) { $0 + $1.allocations } } }

  // MARK: Blocks

  /// Calls `body` for every block, in parallel.
  ///
  /// - Parameter inOrder: Workers take the first block that is left. Otherwise each has a range of its own, which keeps
  ///   its caches warm but not long blocks in front of short ones.
  package func forEachBlock(
    _ count: Int, inOrder: Bool = false, _ body: (_ block: Int, _ workspace: Workspace) -> Void
  ) {
    let workers = min(configuration.workerCount, count)
    guard workers > 1 else {
      guard count > 0 else { return }
      let workspace = borrowWorkspace()
      for block in 0..<count { body(block, workspace) }
      return giveBack(workspace)
    }
    let shared = borrowWorkspace()
    let claims = shared.claims(capacity: configuration.workerCount)
    claims.offer(count, ranges: inOrder ? 1 : workers)
    forEachClaim(workers: workers, { claims.claim(seat: $0) }, body)
    giveBack(shared)
  }

  /// Calls `body` for whatever `claim` gives, on up to `workers` threads at the same time, until it gives nothing.
  ///
  /// - Parameter claim: Is told the seat of its thread, any number from 0 on, and gives a block to one of them only.
  func forEachClaim(
    workers: Int, _ claim: (_ seat: Int) -> Int?, _ body: (_ block: Int, _ workspace: Workspace) -> Void
  ) {
    func work(_ seat: Int) {
      guard var block = claim(seat) else { return }
      let workspace = borrowWorkspace(seat: seat)
      while true {
        body(block, workspace)
        guard let next = claim(seat) else { break }
        block = next
      }
      giveBack(workspace)
    }
    guard workers > 1 else { return work(0) }
    if !team.run(helpers: workers - 1, work) {
      // The team works for another thread, or this is a block of its work.
      withoutActuallyEscaping(work) { work in
        nonisolated(unsafe) let work = work
        DispatchQueue.concurrentPerform(iterations: workers) { work($0) }
      }
    }
  }

  /// Adds what `body` returns for every block, in block order.
  func sum(
    overBlocks count: Int, _ body: (_ block: Int, _ workspace: Workspace) -> PartialSums
  ) -> PartialSums {
    let workspace = borrowWorkspace()
    let partials = workspace.buffer(of: PartialSums.self, count: count)
    forEachBlock(count) { block, workspace in partials[block] = body(block, workspace) }
    var total = PartialSums()
    for block in 0..<count { total.add(partials[block]) }
    giveBack(workspace)
    return total
  }

  /// Lends scratch memory of the calling thread's own; nested borrowing gets another one. One of the same seat, if there
  /// is any, still lies in the caches of whoever had the seat.
  func borrowWorkspace(seat: Int = 0) -> Workspace {
    let found = idle.withLock { idle in
      (idle.lastIndex { $0.seat == seat } ?? idle.indices.last).map { idle.remove(at: $0) }
    }
    let workspace = found ?? Workspace()
    workspace.seat = seat
    return workspace
  }

  func giveBack(_ workspace: Workspace) {
    idle.withLock { $0.append(workspace) }
  }
}

/// What one block contributes to the result of a batch.
struct PartialSums {
  var sum = 0.0
  var weight = 0.0
  var active = 0

  mutating func add(_ other: PartialSums) {
    sum += other.sum
    weight += other.weight
    active += other.active
  }
}

/// Scratch memory of one worker, kept by the engine between calls.
///
/// Unchecked because the engine hands it to one worker at a time.
package final class Workspace: @unchecked Sendable {
  private(set) var allocations = 0
  /// Whose it was last.
  fileprivate(set) var seat = 0
  private var claims: BlockClaims?
  private var memory: UnsafeMutableRawPointer?
  private var capacity = 0

  /// Uninitialised memory for `count` elements aligned to 64 bytes; valid until the next call.
  func buffer<Element: BitwiseCopyable>(of _: Element.Type, count: Int) -> UnsafeMutablePointer<Element> {
    let bytes = max(count * MemoryLayout<Element>.stride, 1)
    if bytes > capacity || memory == nil {
      memory?.deallocate()
      capacity = (bytes + 4095) & ~4095
      memory = LargeMemory.allocate(byteCount: capacity)
      allocations += 1
    }
    return memory!.bindMemory(to: Element.self, capacity: count)
  }

  /// Blocks to be claimed by up to `capacity` workers, the same for every call.
  fileprivate func claims(capacity: Int) -> BlockClaims {
    if let claims { return claims }
    let new = BlockClaims(capacity: capacity)
    claims = new
    return new
  }

  deinit { memory?.deallocate() }
}
