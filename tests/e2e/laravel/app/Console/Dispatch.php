<?php

namespace App\Console;

use Illuminate\Console\Command;
use Illuminate\Support\Facades\Queue;

/** Puts many pieces of work into a queue with one start of PHP, and says when it began to (CLOCK_MONOTONIC). */
class Dispatch extends Command
{
    protected $signature = 'app:dispatch {kind} {count=1} {--from=0} {--delay=0} {--connection=} {--queue=}';

    public function handle(): void
    {
        $class = 'App\\Work\\'.$this->argument('kind');
        $from = (int) $this->option('from');
        $pieces = array_map(fn ($n) => new $class($n), range($from, $from + $this->argument('count') - 1));
        $connection = Queue::connection($this->option('connection'));
        $this->line(sprintf('%.6f', hrtime(true) / 1e9));
        if ($this->option('delay')) {
            foreach ($pieces as $piece) {
                $connection->later((int) $this->option('delay'), $piece, '', $this->option('queue'));
            }
        } else {
            foreach (array_chunk($pieces, 100) as $some) {
                $connection->bulk($some, '', $this->option('queue'));
            }
        }
    }
}
