<?php

namespace App\Work;

use App\Ledger;
use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Foundation\Bus\Dispatchable;
use Illuminate\Queue\InteractsWithQueue;

/** One piece of work: a line in the ledger when it begins and one when it is done. */
abstract class Piece implements ShouldQueue
{
    use Dispatchable, InteractsWithQueue, Queueable;

    public function __construct(public int $number)
    {
    }

    public function handle(): void
    {
        Ledger::note('begin', $this->number);
        $this->work();
        Ledger::note('done', $this->number);
    }

    abstract protected function work(): void;
}
