<?php

namespace App\Console;

use Illuminate\Foundation\Console\Kernel as Console;

class Kernel extends Console
{
    protected $commands = [Dispatch::class, Hold::class, Pause::class, Sees::class];
}
