<?php

namespace App\Console;

use Illuminate\Console\Command;
use Illuminate\Support\Facades\Queue;

/** Takes pieces of work as a process of the queue would, `count` or all that may be taken, and says how many those are.
 *  It keeps them, unfinished, until its input ends. */
class Hold extends Command
{
    protected $signature = 'app:hold {count=1000000} {--connection=} {--queue=}';

    public function handle(): void
    {
        $connection = Queue::connection($this->option('connection'));
        $held = [];
        while (count($held) < $this->argument('count') && ($taken = $connection->pop($this->option('queue')))) {
            $held[] = $taken;
        }
        $this->line(count($held));
        stream_get_contents(STDIN);
    }
}
